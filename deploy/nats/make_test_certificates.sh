#!/bin/sh
# Certificates for trying it out: a CA of a day's worth for clients and one for routes, a server's and a route's certificate,
# and one of a client. For real use take your own authority's; the keys of these CAs are thrown away.
#
#   ./make_test_certificates.sh DIRECTORY [NAME...]      names or addresses of the servers (localhost 127.0.0.1)
set -eu
umask 077
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
out=$1
shift
[ $# -gt 0 ] || set -- localhost 127.0.0.1
mkdir -p "$out"
names=
for name in "$@"; do
  case $name in
    *[!0-9.]*) names="$names,DNS:$name" ;;
    *) names="$names,IP:$name" ;;
  esac
done

authority() { # FILE NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "${DAYS:-30}" -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout "$out/$1.key" -out "$out/$1.crt"
}

certificate() { # CA FILE NAME EXTENSIONS
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$3" -keyout "$out/$2.key" -out "$out/$2.csr"
  printf '%s\n' basicConstraints=CA:FALSE "$4" > "$out/$2.ext"
  openssl x509 -req -in "$out/$2.csr" -CA "$out/$1.crt" -CAkey "$out/$1.key" -set_serial "0x$(openssl rand -hex 8)" \
    -days "${DAYS:-30}" -extfile "$out/$2.ext" -out "$out/$2.crt"
  rm "$out/$2.csr" "$out/$2.ext"
}

{
  authority ca "wazuh-jetstream test CA"
  authority route-ca "wazuh-jetstream test CA of routes"
  certificate ca server "$1" "extendedKeyUsage=serverAuth
subjectAltName=${names#,}"
  certificate ca client "wazuh-jetstream test client" "extendedKeyUsage=clientAuth"
  certificate route-ca route "$1" "extendedKeyUsage=serverAuth,clientAuth
subjectAltName=${names#,}"
  rm "$out/ca.key" "$out/route-ca.key"
} 2> "$out/openssl.log" || { cat "$out/openssl.log" >&2; exit 1; }
rm "$out/openssl.log"
chmod 644 "$out"/*.crt
