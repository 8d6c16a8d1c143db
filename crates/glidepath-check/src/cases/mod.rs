//! All cases: a file is a section of the specification, and a case is a sentence of it.

mod at_rest;
mod in_flight;

use crate::case::Section;

pub(crate) const SECTIONS: &[Section] = &[at_rest::SECTION, in_flight::SECTION];
