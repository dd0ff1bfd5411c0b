"""(d) 1,000 MLP nodes on digits, fully connected: peak memory, and the exchange's share of a round."""

from palaver.devices import use_cores

use_cores()

import resource  # noqa: E402

from benchmarks.measure import Prepared, alternate, say  # noqa: E402
from palaver.data import load  # noqa: E402
from palaver.exchange.settings import CollectiveSettings  # noqa: E402

prepared = Prepared(CollectiveSettings(nodes=1000, channel="logits"), load("digits"), 20)
medians = alternate({"ours": prepared.advance, "bare": prepared.advance_bare})
share = max(1e-4, 1 - medians["bare"] / medians["ours"])
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
say(
    thousand_nodes_memory=(memory, 8.0, "< GB"),
    thousand_nodes_exchange_share_of_round=(share, 0.25, "< share"),
    thousand_nodes_speed=(1000 * 20 / medians["ours"], 1000 * 20 / medians["bare"], "node-steps/s, bare training"),
)
