//! What the host offers to plugins of the machine and of what hangs on it. A device answers its callers and nothing
//! else: no module here knows another, the spool, or the broker.

pub mod gpio;
pub mod modbus;
pub mod simulated;
pub mod system;
