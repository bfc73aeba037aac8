#!/bin/sh
# docs/install.md as an operator types it, in a fresh container whose manager is simulated: from nothing to the first event.
set -eu
nats=nats://127.0.0.1:$PORT

# A manager as Wazuh leaves it: its group, its files, its wazuh-db.
groupadd --system wazuh
useradd --system --gid wazuh --no-create-home --home-dir /var/ossec wazuh
install -d -o wazuh -g wazuh -m 750 /var/ossec /managers
mkdir /sim && cp -r /src/tests /sim/tests && cd /sim
ln -s /var/ossec /managers/node01
install -d -o wazuh -g wazuh -m 750 /managers/worker1
setpriv --reuid wazuh --regid wazuh --clear-groups python3 tests/fleet/run.py --agents 3 --events 0 --commit-seconds 3 &

# 2. The program
cp -r /src/collector /src/relay /src/shared /src/pyproject.toml /src/README.md /src/LICENSE /src/CHANGELOG.md /tmp
python3 -m venv /opt/wazuh-jetstream
pip=/opt/wazuh-jetstream/bin/pip
$pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r /src/deploy/docker/relay.lock -r /src/deploy/docker/build.lock
$pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index /tmp

# 3. The user
useradd --system --user-group --home-dir /var/lib/wazuh-jetstream --shell /usr/sbin/nologin wazuh-jetstream
usermod --append --groups wazuh wazuh-jetstream
install -d -m 750 -o root -g wazuh-jetstream /etc/wazuh-jetstream
install -d -m 750 -o wazuh-jetstream -g wazuh-jetstream /var/lib/wazuh-jetstream

# 4. Keys and configuration
cd /etc/wazuh-jetstream
for key in signing events; do
  (umask 077; openssl rand -hex 32 > $key.key)
  chown root:wazuh-jetstream $key.key; chmod 640 $key.key
done
install -d -m 750 -g wazuh-jetstream keyring keyring/node01
cp -p signing.key keyring/node01/current.key
cat > collector.yaml <<C
wazuh: {home: /var/ossec}
nats: {url: "$nats"}
security: {signing_key_path: /etc/wazuh-jetstream/signing.key}
C
cat > relay.yaml <<C
nats: {url: "$nats", raw_max_bytes: 64MiB, events_max_bytes: 64MiB}
security: {signing_key_path: /etc/wazuh-jetstream/events.key, keyring_path: /etc/wazuh-jetstream/keyring}
monitoring: {metrics_port: 9191}
C

# 5. Check, then start
as() { setpriv --reuid wazuh-jetstream --regid wazuh-jetstream --init-groups "$@"; }
bin=/opt/wazuh-jetstream/bin
as $bin/wazuh-relay provision --config relay.yaml
cd /var/lib/wazuh-jetstream
as $bin/wazuh-relay run --config /etc/wazuh-jetstream/relay.yaml 2> /tmp/relay.log &
sleep 4 # wazuh-db's first commit
as $bin/wazuh-collector check --config /etc/wazuh-jetstream/collector.yaml
as $bin/wazuh-collector run --config /etc/wazuh-jetstream/collector.yaml 2> /tmp/collector.log &
for turn in $(seq 40); do grep -q baseline_done /tmp/relay.log && break; sleep 0.5; done
(cd /sim && python3 tests/fleet/control.py start 1 node01)
timeout 30 $bin/wazuh-relay tail --config /etc/wazuh-jetstream/relay.yaml --from-start --agent 001 --limit 1 || { cat /tmp/*.log >&2; exit 1; }
