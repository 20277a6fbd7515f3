//! The end of a node: `SHUTDOWN` and the signals that mean it.

/// What a shutdown was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// Save even without save points; `NOSAVE` is the opposite.
    pub save: Option<bool>,
    pub now: bool,
    pub force: bool,
}
