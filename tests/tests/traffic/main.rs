//! Real traffic through the real balancer: a client, balancers and backends in namespaces, frames and connections counted.

mod cross;
mod decap;
mod flooding;
mod generic;
mod health;
mod neighbours;
mod pool;
mod reach;
mod refused;
mod scene;
mod second;
mod tap;
mod too_big;
mod two_cpus;
mod verdicts;
mod vlan;
