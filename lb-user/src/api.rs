//! The HTTP/JSON API of the daemon on its Unix socket, both ends of it.
//!
//! [`serve`] turns requests into [`Command`]s for the daemon; [`Client`] is what the command line uses.

pub mod client;
pub mod command;
mod connections;
pub mod error;
mod extract;
mod reasons;
mod routes;
pub mod server;
pub mod socket;
pub mod time;
pub mod types;
mod words;

pub use client::{Client, ClientError};
pub use command::{Answer, Command};
pub(crate) use connections::{Bounds, serve_all};
pub use error::{ApiError, ErrorCode};
pub(crate) use routes::{exchange as ask, stopping, unknown_method, unknown_path};
pub use server::{serve, serve_one};
pub use socket::{BindError, Listener};
pub use time::Timestamp;
