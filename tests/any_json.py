"""JSON of any shape, for readers that must name the file in whatever they refuse."""

from hypothesis import strategies as st


def any_json(*keys: str) -> st.SearchStrategy:
    """Values, lists and objects in each other; the objects' keys are among `keys`, or any text."""
    names = st.sampled_from(keys) if keys else st.text(max_size=5)
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=8,
    )
