//! RESP2, RESP3 and the inline protocol, as bytes in and bytes out.
//!
//! The owner of a connection holds three things of this crate: a [`Parser`] with the state of a command that has
//! only partly arrived, a [`Batch`] that the parser fills with every complete command of the input buffer (so that
//! the engine can hash and prefetch all keys before it executes the first), and an [`Output`] into which [`Reply`]
//! writes. All three are reused for the life of the connection, so that a command in steady state allocates nothing.
//!
//! The client's side of the protocol, for links to a primary, tools and tests, is [`encode_command`] and
//! [`parse_reply`].
//!
//! There is no socket, clock or thread here; limits, texts and odd corners are those of Redis 7.0.

mod args;
mod encode;
mod inline;
pub mod number;
mod reply;
mod request;
mod value;

pub use args::{Args, ArgsBuf, Span};
pub use encode::{encode_command, encoded_command_len};
pub use inline::{UnbalancedQuotes, split_args, split_words};
pub use reply::{Mark, Output, Proto, Reply};
pub use request::{Batch, INLINE_MAX, Limits, Parser, Progress, ProtocolError, Request};
pub use value::{ReplyError, Value, parse_reply};
