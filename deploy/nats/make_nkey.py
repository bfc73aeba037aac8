#!/usr/bin/env python3
"""Make an NKey for a user of NATS: the seed goes into FILE (mode 600), the public key is printed.

    make_nkey.py /etc/wazuh-jetstream/nats.nk      needs the package nkeys: pip install nkeys

The public key goes into identities.conf, the file stays with the service (`nats.credentials_file`). A file that is there
already is not overwritten.
"""

import os
import sys

import nkeys


def main() -> int:
    """0; 1 where the file cannot be made, 2 for wrong usage."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        with os.fdopen(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(seed + b"\n")
    except OSError as error:
        print(f"{sys.argv[1]} cannot be made ({error.strerror})", file=sys.stderr)
        return 1
    print(nkeys.from_seed(bytearray(seed)).public_key.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
