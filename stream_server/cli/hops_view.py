"""Where the time of finals went, hop by hop: a line below each, and the median and p95 at the end."""

import msgspec
from rich.console import Console
from rich.table import Table

from stream_server.client import Event, FinalEvent
from stream_server.client.latency import percentile
from stream_server.dialects.schema import TraceObject


class HopsView:
    """Shows the traces of one stream.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._traces: list[TraceObject] = []

    def show(self, event: Event) -> None:
        """One line, if it is a final that tells."""
        if not isinstance(event, FinalEvent) or not isinstance(event.trace, TraceObject):
            return
        self._traces.append(event.trace)
        hops = msgspec.structs.asdict(event.trace)
        parts = " · ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in hops.items())
        total_ms = 1000 * sum(hops.values())
        self._console.print(f"  {event.end:.2f} s: {parts} = {total_ms:.0f} ms", style="dim", markup=False)

    def summarise(self) -> None:
        """A table over all finals so far; nothing when none told."""
        if not self._traces:
            return
        table = Table(title=f"hops of {len(self._traces)} finals, ms")
        table.add_column("hop")
        for head in ("p50", "p95"):
            table.add_column(head, justify="right")
        for name in TraceObject.__struct_fields__:
            values_ms = [1000 * getattr(trace, name) for trace in self._traces]
            table.add_row(name, *(f"{percentile(values_ms, percent):.0f}" for percent in (50, 95)))
        self._console.print(table)
