//! The kernel's file that says how ready it is to kill this process when memory runs out.
//!
//! What is wanted is decided in [`engine::oom_score`]. The value that the process was started with is read before the
//! first change and given back when nothing is wanted any more.

use std::path::PathBuf;

use engine::oom_score::OomScore;

use crate::listener::strerror;

/// What the kernel takes: proc(5).
const KERNEL_RANGE: (i32, i32) = (-1000, 1000);

pub struct OomScoreFile {
    path: PathBuf,
    /// Of the start; known while the value is ours.
    base: Option<i32>,
}

impl Default for OomScoreFile {
    fn default() -> Self {
        OomScoreFile { path: PathBuf::from("/proc/self/oom_score_adj"), base: None }
    }
}

impl OomScoreFile {
    /// The error is a line for the log.
    pub fn set(&mut self, wanted: Option<OomScore>) -> Result<(), String> {
        let value = match (wanted, self.base) {
            (None, None) => return Ok(()),
            (None, Some(base)) => {
                self.base = None;
                base
            }
            (Some(score), known) => {
                let base = match known {
                    Some(base) => base,
                    None => self.read()?,
                };
                self.base = Some(base);
                if score.relative { base.saturating_add(score.value) } else { score.value }
            }
        };
        let (min, max) = KERNEL_RANGE;
        let written = std::fs::write(&self.path, format!("{}\n", value.clamp(min, max)));
        written.map_err(|error| format!("Unable to write oom_score_adj: {}", strerror(&error)))
    }

    fn read(&self) -> Result<i32, String> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("Unable to read oom_score_adj: {}", strerror(&error)))?;
        Ok(text.trim().parse().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_the_base_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oom_score_adj");
        let mut file = OomScoreFile { path: path.clone(), base: None };
        let now = || std::fs::read_to_string(&path).unwrap();
        let relative = |value| Some(OomScore { value, relative: true });
        std::fs::write(&path, "22\n").unwrap();
        file.set(None).unwrap();
        assert_eq!(now(), "22\n");
        for (wanted, expected) in [
            (relative(9), "31\n"),
            (relative(-2000), "-1000\n"),
            (Some(OomScore { value: 2000, relative: false }), "1000\n"),
            (relative(0), "22\n"),
            (None, "22\n"),
        ] {
            file.set(wanted).unwrap();
            assert_eq!(now(), expected, "{wanted:?}");
        }
        // From here on it is another's.
        std::fs::write(&path, "5\n").unwrap();
        file.set(None).unwrap();
        file.set(relative(1)).unwrap();
        assert_eq!(now(), "6\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(file.set(None).unwrap_err(), "Unable to write oom_score_adj: Is a directory");
        assert_eq!(file.set(relative(1)).unwrap_err(), "Unable to read oom_score_adj: Is a directory");
    }
}
