//! The end of a node: `SHUTDOWN` and the signals that mean it.

use crate::action::Action;
use crate::core::Core;
use crate::persist;
use crate::store::Store;

/// What a shutdown was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// Save even without save points; `NOSAVE` is the opposite.
    pub save: Option<bool>,
    pub now: bool,
    pub force: bool,
}

/// Saves if that is wanted, or configured and not refused, and asks for the end of the process. `Err` says that the
/// snapshot could not be written; the server goes on then, unless it is forced to end.
pub fn perform(store: &mut Store, core: &mut Core, wanted: Shutdown) -> Result<(), String> {
    if wanted.save.unwrap_or(!core.config.save.is_empty()) {
        core.notice("Saving the final RDB snapshot before exiting.");
        if let Err(reason) = persist::save_now(store, core)
            && !wanted.force
        {
            core.warning("Error trying to save the DB, can't exit.");
            return Err(reason);
        }
    }
    core.warning("Kindred is now ready to exit, bye bye...");
    core.actions.push(Action::Exit { code: 0 });
    Ok(())
}
