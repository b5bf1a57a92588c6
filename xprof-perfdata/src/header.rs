//! The file header, and the facts about the recording machine and run that a recording carries.

use crate::events::Events;
use crate::feature::Features;

/// Everything a recording says about itself, gathered from header, feature sections and pipe-mode records.
#[derive(Clone, Debug)]
pub struct Description {
    /// The events.
    pub events: Events,
    /// The feature sections.
    pub features: Features,
}
