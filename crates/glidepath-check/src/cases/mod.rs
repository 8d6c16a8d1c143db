//! All cases: a file is a section of the specification, and a case is a sentence of it.

mod at_rest;
mod ending;
mod http2;
mod in_flight;
mod listener;
mod readiness;
mod restart;
mod signals;
mod slow;
mod tasks;
mod tls;
mod unix;
mod upgraded;

use crate::case::Section;

pub(crate) const SECTIONS: &[Section] = &[
    signals::SECTION,
    listener::SECTION,
    at_rest::SECTION,
    in_flight::SECTION,
    slow::SECTION,
    http2::SECTION,
    upgraded::SECTION,
    tls::SECTION,
    tasks::SECTION,
    ending::SECTION,
    readiness::SECTION,
    restart::SECTION,
    unix::SECTION,
];
