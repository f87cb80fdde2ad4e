//! Everything that touches the kernel's BPF: programs, maps, pins, links.

pub mod dry_run;
mod kernel_types;
pub mod layout;
pub mod link;
pub mod mapped;
pub mod pinned;
pub mod pins;
pub mod program;
pub mod tables;
pub mod watch;

pub use layout::Layout;
pub use tables::Tables;
