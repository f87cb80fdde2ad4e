//! The `fairlead` binary: arguments in, exit code out; everything else is in the library.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The streams are not locked: threads of the daemon may write to them too.
    ExitCode::from(lb_user::cli::run(std::env::args_os(), &mut io::stdout(), &mut io::stderr()))
}
