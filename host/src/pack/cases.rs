//! A pack's `tests/*.yaml`.
