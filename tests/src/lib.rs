//! The lab that Fairlead is tried in: network namespaces, real daemons, and clients that notice every fault;
//! what the fuzz targets run, and the alert rules.

pub mod alerts;
pub mod fuzz;
pub mod lab;
pub mod oracle;
pub mod packets;
pub mod report;
