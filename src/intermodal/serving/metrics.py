"""What a server counts, in the text format of Prometheus (version 0.0.4).

Labels are names of routes, statuses and kinds of work alone, so their number is bounded and they tell no contents.
"""

import bisect
from collections import defaultdict
from collections.abc import Mapping

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

_HELP = {
    "intermodal_requests_total": "Requests by route and status.",
    "intermodal_request_seconds": "Time from the first byte of a request to the last of its answer.",
    "intermodal_refused_total": "Requests refused before they were looked at, by reason.",
    "intermodal_batch_size": "Pieces of work computed together, by queue.",
    "intermodal_queue_pieces": "Pieces of work that wait, by queue.",
    "intermodal_requests_running": "Requests being answered.",
    "intermodal_items_total": "Items read or made, by what was asked for.",
    "intermodal_library_items": "Items in the library.",
    "intermodal_ready": "1 while the server takes work.",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, and histograms of seconds and sizes; used from one thread."""

    def __init__(self) -> None:
        """Begins at zero."""
        self._counts: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, dict[Labels, list[float]]] = defaultdict(dict)
        self._edges: dict[str, tuple[float, ...]] = {}

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Adds to a counter."""
        self._counts[name][tuple(sorted(labels.items()))] += by

    def observe(self, name: str, value: float, edges: tuple[float, ...] = SECONDS, **labels: str) -> None:
        """Puts a value in its place of a histogram.

        Args:
            name: of the histogram.
            value: what was measured.
            edges: of its places; the same at every call.
            labels: of the histogram.
        """
        self._edges[name] = edges
        found = self._histograms[name].setdefault(tuple(sorted(labels.items())), [0.0] * (len(edges) + 2))
        found[bisect.bisect_left(edges, value)] += 1
        found[-1] += value

    def text(self, gauges: Mapping[str, Mapping[Labels, float]]) -> str:
        """Returns all of it, with what is the case now, given as name -> labels -> value."""
        lines: list[str] = []
        for kind, group in (("counter", self._counts), ("gauge", gauges)):
            for name, values in sorted(group.items()):
                lines += _head(name, kind)
                lines += [f"{name}{_shown(labels)} {value:g}" for labels, value in sorted(values.items())]
        for name, found in sorted(self._histograms.items()):
            lines += _head(name, "histogram")
            for labels, places in sorted(found.items()):
                total = 0.0
                for edge, count in zip((*self._edges[name], float("inf")), places[:-1], strict=True):
                    total += count
                    shown = "+Inf" if edge == float("inf") else f"{edge:g}"
                    lines.append(f"{name}_bucket{_shown((*labels, ('le', shown)))} {total:g}")
                lines.append(f"{name}_sum{_shown(labels)} {places[-1]:.6g}")
                lines.append(f"{name}_count{_shown(labels)} {total:g}")
        return "\n".join([*lines, ""])


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {name} {_HELP.get(name, name)}", f"# TYPE {name} {kind}"]


def _shown(labels: Labels) -> str:
    """Returns labels as they are written; empty for none."""
    quoted = (value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for _, value in labels)
    inside = ",".join(f'{name}="{value}"' for (name, _), value in zip(labels, quoted, strict=True))
    return f"{{{inside}}}" if inside else ""
