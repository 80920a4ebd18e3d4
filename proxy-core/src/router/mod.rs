//! Routing.

/// Domain look-up of a route table.
#[derive(Clone, Debug, Default)]
pub struct TableIndex;
