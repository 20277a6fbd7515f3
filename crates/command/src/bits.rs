//! The three sets that describe a command: its flags, its ACL categories, and the flags of a key spec.

use std::fmt;

/// Declares an enum whose variants stand in the order in which Redis prints them, and the set of them, which can be
/// built in a constant.
macro_rules! bit_set {
    (
        $(#[$item_doc:meta])* enum $Item:ident;
        $(#[$set_doc:meta])* struct $Set:ident($repr:ty);
        $($(#[$doc:meta])* $variant:ident = $name:literal,)*
    ) => {
        $(#[$item_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $Item {
            $($(#[$doc])* $variant,)*
        }

        impl $Item {
            /// Every member, in wire order.
            pub const ALL: &'static [$Item] = &[$($Item::$variant),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $($Item::$variant => $name,)*
                }
            }

            /// The member of this name, in any case.
            pub fn from_name(name: &[u8]) -> Option<$Item> {
                $Item::ALL.iter().copied().find(|item| item.name().as_bytes().eq_ignore_ascii_case(name))
            }
        }

        $(#[$set_doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        pub struct $Set($repr);

        impl $Set {
            pub const NONE: $Set = $Set(0);

            pub const fn of(items: &[$Item]) -> $Set {
                let mut set = $Set::NONE;
                let mut index = 0;
                while index < items.len() {
                    set = set.with(items[index]);
                    index += 1;
                }
                set
            }

            pub const fn with(self, item: $Item) -> $Set {
                $Set(self.0 | 1 << item as u8)
            }

            #[inline]
            pub const fn has(self, item: $Item) -> bool {
                self.0 & 1 << item as u8 != 0
            }

            /// True when one of `other` is in the set.
            #[inline]
            pub const fn intersects(self, other: $Set) -> bool {
                self.0 & other.0 != 0
            }

            pub const fn union(self, other: $Set) -> $Set {
                $Set(self.0 | other.0)
            }

            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The members in wire order.
            pub fn iter(self) -> impl Iterator<Item = $Item> + Clone {
                $Item::ALL.iter().copied().filter(move |item| self.has(*item))
            }
        }

        impl fmt::Debug for $Set {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.iter().map($Item::name)).finish()
            }
        }
    };
}

bit_set! {
    /// A property of a command that the gates and COMMAND INFO read.
    enum Flag;
    /// A set of [`Flag`].
    struct Flags(u32);
    Write = "write",
    Readonly = "readonly",
    /// May grow memory: refused when there is no more.
    Denyoom = "denyoom",
    Admin = "admin",
    Pubsub = "pubsub",
    Noscript = "noscript",
    /// May block the client.
    Blocking = "blocking",
    /// Allowed while the data set is loaded.
    Loading = "loading",
    /// Allowed on a replica without its primary that does not serve stale data.
    Stale = "stale",
    SkipMonitor = "skip_monitor",
    SkipSlowlog = "skip_slowlog",
    Asking = "asking",
    Fast = "fast",
    /// Allowed before authentication.
    NoAuth = "no_auth",
    NoMandatoryKeys = "no_mandatory_keys",
    NoAsyncLoading = "no_async_loading",
    NoMulti = "no_multi",
    /// The legacy range does not cover all keys. Computed by the registry; not to be declared.
    Movablekeys = "movablekeys",
    /// Allowed while a script that runs too long blocks the server.
    AllowBusy = "allow_busy",
    /// May write to the replication stream without being a write. Hidden: see [`Flag::is_hidden`].
    MayReplicate = "may_replicate",
    /// Touches keys that it does not name, such as RANDOMKEY. Hidden.
    TouchesArbitraryKeys = "touches_arbitrary_keys",
    /// Needs `enable-debug-command` or its like. Hidden.
    Protected = "protected",
}

impl Flag {
    /// True for flags that COMMAND INFO does not show.
    pub const fn is_hidden(self) -> bool {
        matches!(self, Flag::MayReplicate | Flag::TouchesArbitraryKeys | Flag::Protected)
    }
}

bit_set! {
    /// An ACL category.
    enum Category;
    /// A set of [`Category`].
    struct Acl(u32);
    Keyspace = "keyspace",
    Read = "read",
    Write = "write",
    Set = "set",
    SortedSet = "sortedset",
    List = "list",
    Hash = "hash",
    String = "string",
    Bitmap = "bitmap",
    HyperLogLog = "hyperloglog",
    Geo = "geo",
    Stream = "stream",
    Pubsub = "pubsub",
    Admin = "admin",
    Fast = "fast",
    Slow = "slow",
    Blocking = "blocking",
    Dangerous = "dangerous",
    Connection = "connection",
    Transaction = "transaction",
    Scripting = "scripting",
}

impl Acl {
    /// The declared categories and those that follow from the flags.
    pub const fn with_implied(mut self, flags: Flags) -> Acl {
        if flags.has(Flag::Write) {
            self = self.with(Category::Write);
        }
        // Scripts are not reads, even those that promise not to write.
        if flags.has(Flag::Readonly) && !self.has(Category::Scripting) {
            self = self.with(Category::Read);
        }
        if flags.has(Flag::Admin) {
            self = self.with(Category::Admin).with(Category::Dangerous);
        }
        if flags.has(Flag::Pubsub) {
            self = self.with(Category::Pubsub);
        }
        if flags.has(Flag::Fast) {
            self = self.with(Category::Fast);
        }
        if flags.has(Flag::Blocking) {
            self = self.with(Category::Blocking);
        }
        if self.has(Category::Fast) { self } else { self.with(Category::Slow) }
    }
}

bit_set! {
    /// What a command does to a key that a spec finds.
    enum Key;
    /// A set of [`Key`].
    struct KeyFlags(u16);
    /// Reads the value or its properties.
    Ro = "RO",
    /// Changes the value or its properties.
    Rw = "RW",
    /// Overwrites the value without regard to the old one.
    Ow = "OW",
    /// Deletes the key.
    Rm = "RM",
    /// User data of the value is returned, copied or used.
    Access = "access",
    /// User data of the value is changed, perhaps depending on the old.
    Update = "update",
    /// User data is added, none is changed or deleted.
    Insert = "insert",
    /// User data is deleted explicitly.
    Delete = "delete",
    /// Routed like a key, but not one.
    NotKey = "not_key",
    /// The spec may miss keys.
    Incomplete = "incomplete",
    /// The flags depend on other arguments.
    VariableFlags = "variable_flags",
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<T>(items: impl Iterator<Item = T>, name: impl Fn(T) -> &'static str) -> String {
        items.map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn wire_names_in_wire_order() {
        assert_eq!(
            names(Flag::ALL.iter().filter(|flag| !flag.is_hidden()), |flag| flag.name()),
            "write readonly denyoom admin pubsub noscript blocking loading stale skip_monitor skip_slowlog asking \
             fast no_auth no_mandatory_keys no_async_loading no_multi movablekeys allow_busy"
        );
        assert_eq!(
            names(Category::ALL.iter(), |category| category.name()),
            "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow \
             blocking dangerous connection transaction scripting"
        );
        assert_eq!(
            names(Key::ALL.iter(), |key| key.name()),
            "RO RW OW RM access update insert delete not_key incomplete variable_flags"
        );
    }

    #[test]
    fn sets_are_built_in_constants_and_iterate_in_wire_order() {
        const FLAGS: Flags = Flags::of(&[Flag::Fast, Flag::Write, Flag::AllowBusy]);
        assert_eq!(names(FLAGS.iter(), Flag::name), "write fast allow_busy");
        assert!(FLAGS.has(Flag::Write) && !FLAGS.has(Flag::Readonly) && !FLAGS.is_empty());
        assert!(FLAGS.intersects(Flags::of(&[Flag::Fast])) && !FLAGS.intersects(Flags::of(&[Flag::Admin])));
        assert_eq!(FLAGS.union(Flags::of(&[Flag::Admin])), FLAGS.with(Flag::Admin));
        assert_eq!(format!("{FLAGS:?}"), r#"{"write", "fast", "allow_busy"}"#);
        assert_eq!(Category::from_name(b"SortedSet"), Some(Category::SortedSet));
        assert_eq!(Category::from_name(b"zset"), None);
        assert!(Flags::NONE.is_empty());
    }

    #[test]
    fn implied_categories() {
        for (flags, declared, expected) in [
            (&[Flag::Write][..], &[Category::String][..], "write string slow"),
            (&[Flag::Readonly, Flag::Fast], &[Category::Hash], "read hash fast"),
            (&[Flag::Readonly], &[Category::Scripting], "slow scripting"),
            (&[Flag::Admin], &[], "admin slow dangerous"),
            (&[Flag::Pubsub, Flag::Fast], &[], "pubsub fast"),
            (&[Flag::Write, Flag::Blocking], &[Category::List], "write list slow blocking"),
            (&[], &[Category::Keyspace], "keyspace slow"),
        ] {
            let acl = Acl::of(declared).with_implied(Flags::of(flags));
            assert_eq!(names(acl.iter(), Category::name), expected);
        }
    }
}
