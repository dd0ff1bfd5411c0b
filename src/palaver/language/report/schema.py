"""What the report of languages reads in result files, beside what every chapter's hold."""

from pydantic import model_validator

from palaver.studies import schema
from palaver.studies.schema import Number, Schema, one_value_per_seed


class _SummaryRow(schema.SummaryRow):
    bits_available: Number
    crosses_wire: bool


class _Summary(schema.Summary[_SummaryRow]):
    _paired = model_validator(mode="after")(one_value_per_seed)


SCHEMA = Schema(summary=_Summary)
