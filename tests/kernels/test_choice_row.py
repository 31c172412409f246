"""The records a choice goes by are the same for NumPy and for C++."""

import pytest

from kernels.choice_row import CHANGE, CHOICE_ROW, LOGPROB_COLUMNS, STEPS, order_of
from kernels.cpu import _native


@pytest.mark.parametrize(("name", "dtype"), [("ChoiceRow", CHOICE_ROW), ("Change", CHANGE)])
def test_each_field_lies_where_the_struct_has_it(name: str, dtype) -> None:
    fields = {field: (offset, kind.itemsize) for field, (kind, offset) in dtype.fields.items()}
    padding = {
        field for field in fields if field.startswith("f") and field[1:].isdigit()
    }  # NumPy's own names
    assert _native.record_layout(name) == {f: at for f, at in fields.items() if f not in padding}
    assert _native.record_size(name) == dtype.itemsize


def test_steps_and_the_width_of_logprobs_are_the_structs() -> None:
    assert _native.choice_steps() == {step: order_of([step]) for step in STEPS}
    assert _native.logprob_columns() == LOGPROB_COLUMNS
