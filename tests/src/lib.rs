//! The lab that Fairlead is tried in: network namespaces, real daemons, and clients that notice every fault.

pub mod lab;
pub mod oracle;
pub mod packets;
pub mod report;
