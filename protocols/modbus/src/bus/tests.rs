//! Scripts and random faults on virtual time.

mod chaos;
mod faults;
mod polling;
mod world;
mod writing;
