//! courier as a process: the built binary, real signals, real sockets, all of it on 127.0.0.1.

mod api;
mod delivery;
mod deploy;
mod durability;
mod harness;
mod landing;
mod live;
mod observing;
mod postgres;
mod restart;
mod rolling;
mod start;
mod transfer;
