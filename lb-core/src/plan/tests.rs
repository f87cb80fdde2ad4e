//! What is planned, and whether every step on the way there keeps the promises of the data plane.

mod kernel;
mod random;
mod rules;
mod steps;
mod tight;
mod world;
