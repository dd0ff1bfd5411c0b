"""What the report of students reads in result files, beside what every chapter's hold."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from palaver.studies import schema
from palaver.studies.schema import Checked, Number, Schema, one_value_per_seed


class _Teacher(Checked):
    test_accuracy: Number
    epochs: Number
    training_flops: Number
    training_seconds: Number | None = None
    """Here in results of before these readings were kept apart; so is the next."""
    table_seconds: Number | None = None


class _SummaryRow(schema.SummaryRow):
    teacher: _Teacher | None = None


class _Summary(schema.Summary[_SummaryRow]):
    goals: Sequence[str]

    _paired = model_validator(mode="after")(one_value_per_seed)


class _Own(Checked):
    stack: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    select: str
    difficulty: str
    target: str
    flipped: Number = 0.0
    known: Number = 1.0


SCHEMA = Schema(_Summary, schema.Settings[_Own])
