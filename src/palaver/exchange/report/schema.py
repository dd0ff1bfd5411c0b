"""What the report of collectives reads in result files, beside what every chapter's hold."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from palaver.studies import schema
from palaver.studies.schema import Checked, Count, Number, Schema, one_value_per_seed


class _SummaryRow(schema.SummaryRow):
    collapsed: Mapping[str, Sequence[Count]] | None = None
    """Nodes by seed."""
    certain: Mapping[str, Sequence[Count]] | None = None


class _Summary(schema.Summary[_SummaryRow]):
    target: Number | None = None
    measure: str | None = None

    _paired = model_validator(mode="after")(one_value_per_seed)


class _Own(Checked):
    report_round: Count | None = None
    method: str | None = None
    channel: str | None = None
    reference: Number | None = None
    reference_data: str | None = None
    learning_rate: Number | None = None


class _Graph(Checked):
    nodes: Annotated[int, Field(ge=0, le=10**6)]
    edges: Sequence[Annotated[Sequence[Count], Field(min_length=2, max_length=2)]]

    @model_validator(mode="after")
    def _between_nodes(self) -> "_Graph":
        if any(end >= self.nodes for edge in self.edges for end in edge):
            raise ValueError(f"edges should be of nodes below {self.nodes}")
        return self


class _Settings(schema.Settings[_Own]):
    graph: _Graph | None = None


SCHEMA = Schema(_Summary, _Settings)
