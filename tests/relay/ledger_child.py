"""Records into a ledger until it is killed, and prints each position that is safe. Argument: the ledger's URL."""

import sys
from itertools import count

from tests.relay import ledgers

ledger = ledgers.opened(sys.argv[1])
view = ledger.restore("lab", ledgers.POLICY)
for position in count(ledger.position() + 1):
    given = ledgers.flip(position)
    decision = ledgers.judged(view, given)
    ledger.record(decision, view, ledgers.kept(given))
    view.settle(decision)
    print(position, flush=True)
