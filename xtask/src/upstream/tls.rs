//! Files of the suite over TLS: `tls/unit/auth` is `unit/auth` with `--tls`, every connection encrypted, with certificates
//! that the suite's own script makes.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{process, workspace};

/// The interpreter's TLS, and what makes the certificates.
pub const DEBIAN_PACKAGES: &[&str] = &["tcl-tls", "openssl"];

/// The file that a name of this form stands for.
pub fn file(name: &str) -> Option<&str> {
    name.strip_prefix("tls/")
}

/// The suite tells every server over TLS this, which has a meaning only in a cluster, where Kindred is not yet.
pub const CLUSTER_LINE: &str = "        dict set config \"tls-cluster\" \"yes\"\n";

/// Makes the certificates once, in the tree that the runs copy.
pub fn prepare(tree: &Path) -> Result<()> {
    let _lock = workspace::lock("upstream.lock")?;
    // The last thing that the script makes.
    if !tree.join("tests/tls/redis.dh").exists() {
        process::output(Command::new("./utils/gen-test-certs.sh").current_dir(tree))?;
    }
    Ok(())
}
