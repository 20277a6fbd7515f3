//! `kindred-server`: a server that is started, configured and stopped like redis-server.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: server::allocator::Allocator = server::allocator::allocator();

fn main() -> ExitCode {
    let code = server::main_with_args(std::env::args_os().collect());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
