//! The `osp` program: see [`cli`].

// They panic when nobody listens any more; `Console` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

#[global_allocator]
static ALLOCATOR: cli::Allocator = cli::Allocator;

fn main() -> std::process::ExitCode {
    cli::main()
}
