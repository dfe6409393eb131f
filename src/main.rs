//! The `osp` program: see [`cli`].

// They panic when nobody listens any more; `Console` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
