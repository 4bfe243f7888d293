"""Events column by column are the same events."""

from hypothesis import given
from hypothesis import strategies as st
from samples import row

from services.contract.consuming.columns import Columns
from services.contract.event import Event


@given(
    st.lists(st.tuples(st.integers(1, 99), st.booleans(), st.sampled_from([None, "{}"])), max_size=6),
    st.data(),
)
def test_they_are_the_events_that_they_were_made_of(
    drawn: list[tuple[int, bool, str | None]], data: st.DataObject
) -> None:
    """One by one, some of them, and all of them; none is also a number."""
    events = [
        row(number, value=float(number), is_degraded=int(is_degraded), attributes=attributes)
        for number, is_degraded, attributes in drawn
    ]
    columns = Columns.of(events)
    assert (len(columns), [*columns], Columns.of(columns)) == (len(events), events, columns)
    assert [columns[place] for place in range(len(events))] == events
    assert [*columns[1:3]] == events[1:3]
    assert all(isinstance(one, Event) for one in columns)
    assert (list(columns.kpi), list(columns.value)) == (
        [one.kpi for one in events],
        [one.value for one in events],
    )
    are_chosen = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    assert [*columns.chosen(are_chosen)] == [
        one for one, is_it in zip(events, are_chosen, strict=True) if is_it
    ]
    all_degraded = [one._replace(is_degraded=1) for one in events]
    assert [*columns.degraded([1] * len(events))] == all_degraded
