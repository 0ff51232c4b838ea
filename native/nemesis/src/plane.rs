//! The link plane: every directed link between nodes passes through it.
