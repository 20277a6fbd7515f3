//! Function libraries: kept by name as their source, and passed on unchanged.
//!
//! Nothing executes them. A primary of another make has compiled a library before it replicates it, so what arrives in a
//! snapshot or in the stream is taken as it is; of its source only the first line is read, which names it.
//!
//! ```text
//! #!lua name=mylib\n…
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use command::CommandError;

/// All libraries of a data set, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Functions {
    libraries: BTreeMap<Vec<u8>, Arc<[u8]>>,
}

/// What the first line of a library's source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'c> {
    pub engine: &'c [u8],
    pub name: &'c [u8],
}

/// What becomes of libraries that are there when others are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Of a name that exists is an error.
    #[default]
    Append,
    /// They stay unless they are replaced.
    Replace,
    /// They go.
    Flush,
}

impl Policy {
    pub fn name(self) -> &'static str {
        match self {
            Policy::Append => "APPEND",
            Policy::Replace => "REPLACE",
            Policy::Flush => "FLUSH",
        }
    }
}

impl<'c> Header<'c> {
    pub fn parse(code: &'c [u8]) -> Result<Header<'c>, CommandError> {
        let missing = || CommandError::fixed("ERR Missing library metadata");
        let line_end = code.iter().position(|byte| *byte == b'\n').ok_or_else(missing)?;
        let line = code[..line_end].strip_prefix(b"#!").ok_or_else(missing)?;
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let engine = words.next().ok_or(CommandError::fixed("ERR Invalid library metadata"))?;
        let mut name = None;
        for word in words {
            let given = word.get(..5).filter(|start| start.eq_ignore_ascii_case(b"name="));
            match (given, name) {
                (Some(_), None) => name = Some(&word[5..]),
                (Some(_), Some(_)) => {
                    return Err(CommandError::fixed(
                        "ERR Invalid metadata value, name argument was given multiple times",
                    ));
                }
                (None, _) => {
                    let word = word.escape_ascii();
                    return Err(CommandError::text(format!("ERR Invalid metadata value given: {word}")));
                }
            }
        }
        let name = name.ok_or(CommandError::fixed("ERR Library name was not given"))?;
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(CommandError::fixed(
                "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
                 character long",
            ));
        }
        Ok(Header { engine, name })
    }
}

impl Functions {
    pub fn is_empty(&self) -> bool {
        self.libraries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.libraries.len()
    }

    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.libraries.keys().map(Vec::as_slice)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<[u8]>)> {
        self.libraries.iter().map(|(name, code)| (name.as_slice(), code))
    }

    /// Adds a library; its name.
    pub fn load<'c>(&mut self, code: &'c [u8], replace: bool) -> Result<&'c [u8], CommandError> {
        let name = Header::parse(code)?.name;
        if !replace && self.libraries.contains_key(name) {
            let name = name.escape_ascii();
            return Err(CommandError::text(format!("ERR Library '{name}' already exists")));
        }
        self.libraries.insert(name.to_vec(), code.into());
        Ok(name)
    }

    /// False if there is none of that name.
    pub fn delete(&mut self, name: &[u8]) -> bool {
        self.libraries.remove(name).is_some()
    }

    pub fn clear(&mut self) {
        self.libraries.clear();
    }

    /// Adds the libraries of `others`; nothing is changed after an error.
    pub fn restore(&mut self, others: Functions, policy: Policy) -> Result<(), CommandError> {
        match policy {
            Policy::Flush => *self = others,
            Policy::Replace => self.libraries.extend(others.libraries),
            Policy::Append => {
                if let Some(name) = others.names().find(|name| self.libraries.contains_key(*name)) {
                    let name = name.escape_ascii();
                    return Err(CommandError::text(format!("ERR Library {name} already exists")));
                }
                self.libraries.extend(others.libraries);
            }
        }
        Ok(())
    }

    /// Bytes of names and sources.
    pub fn bytes(&self) -> usize {
        self.libraries.iter().map(|(name, code)| name.len() + code.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(code: &str) -> String {
        match Header::parse(code.as_bytes()) {
            Ok(header) => header.name.escape_ascii().to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The errors are those of redis 7.0.15.
    #[test]
    fn a_library_is_named_by_its_first_line() {
        assert_eq!(name("#!lua name=lib_1\nreturn 1"), "lib_1");
        assert_eq!(name("#!lua   NAME=x\n"), "x");
        assert_eq!(name("#!js name=x\n"), "x", "of whatever engine");
        for (code, error) in [
            ("return 1\n", "Missing library metadata"),
            ("#!lua name=x", "Missing library metadata"),
            ("#!\nreturn 1", "Invalid library metadata"),
            ("#!lua\nreturn 1", "Library name was not given"),
            ("#!lua name=a name=b\n", "Invalid metadata value, name argument was given multiple times"),
            ("#!lua colour=red\n", "Invalid metadata value given: colour=red"),
        ] {
            assert_eq!(name(code), format!("ERR {error}"), "{code}");
        }
        assert!(name("#!lua name=a-b\n").starts_with("ERR Library names can only contain"));
        assert!(name("#!lua name=\n").starts_with("ERR Library names can only contain"));
    }

    #[test]
    fn what_is_restored_meets_what_is_there() {
        let of = |codes: &[&str]| {
            let mut functions = Functions::default();
            for code in codes {
                functions.load(code.as_bytes(), false).expect("a library");
            }
            functions
        };
        let (a1, a2, b) = ("#!lua name=a\n1", "#!lua name=a\n2", "#!lua name=b\n1");
        let mut there = of(&[a1]);
        assert_eq!(
            there.load(a2.as_bytes(), false).expect_err("the name is taken").to_string(),
            "ERR Library 'a' already exists"
        );
        assert_eq!(
            there.restore(of(&[b, a2]), Policy::Append).expect_err("the name is taken").to_string(),
            "ERR Library a already exists"
        );
        assert_eq!(there, of(&[a1]), "nothing was changed");
        there.restore(of(&[b, a2]), Policy::Replace).expect("all is replaced");
        assert_eq!(there, of(&[a2, b]));
        there.restore(of(&[b]), Policy::Flush).expect("all went");
        assert_eq!(there, of(&[b]));
        assert!(there.delete(b"b") && !there.delete(b"b") && there.is_empty());
    }
}
