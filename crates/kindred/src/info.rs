//! INFO texts as fields.

use std::collections::HashMap;
use std::str::FromStr;

/// The `name:value` lines of an INFO reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    fields: HashMap<String, String>,
}

impl Info {
    pub fn parse(text: &str) -> Info {
        let fields = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Info { fields }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// A field's value, if it is there and is one.
    pub fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    pub fn is_one(&self, name: &str) -> bool {
        self.text(name) == Some("1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_fields() {
        let info = Info::parse(
            "# Replication\r\nrole:slave\r\nmaster_host:::1\r\nslave_repl_offset:42\r\n\r\n# Keyspace\r\nbad\r\nempty:\r\n\
             master_sync_in_progress:1\r\n",
        );
        assert_eq!(info.text("role"), Some("slave"));
        assert_eq!(info.text("master_host"), Some("::1"));
        assert_eq!(info.text("empty"), Some(""));
        assert_eq!(info.number::<u64>("slave_repl_offset"), Some(42));
        assert_eq!(info.number::<u64>("role"), None);
        assert!(info.is_one("master_sync_in_progress"));
        assert_eq!(info.text("# Replication"), None);
    }
}
