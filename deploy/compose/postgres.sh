#!/bin/sh
# The image's own entrypoint, given the password from a file, so that no container's configuration holds it. POSTGRES_IMAGE may
# be another maker's: its entrypoint is taken where it is.
set -eu
POSTGRES_PASSWORD=$(cat /run/secrets/wazuh-jetstream/password)
export POSTGRES_PASSWORD
for entrypoint in /usr/local/bin/docker-entrypoint.sh /entrypoint; do
  [ -x "$entrypoint" ] && exec "$entrypoint" postgres
done
echo "this image has no entrypoint that is known here" >&2
exit 1
