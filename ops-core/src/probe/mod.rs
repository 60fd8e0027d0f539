//! Questions about health: healthy, unhealthy, or unknown.
