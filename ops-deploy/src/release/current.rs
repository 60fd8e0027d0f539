//! Which version is in service: what the symlink, the traffic and the history say together.

use ops_core::{Refusal, Version};

/// What each of them says; `None` is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Testimony {
    pub link: Option<Version>,
    pub traffic: Option<Version>,
    /// The traffic goes to an instance of which nothing is known here.
    pub stranger: Option<String>,
    pub history: Option<Version>,
}

impl Testimony {
    /// The version that all of them name; every contradiction if they do not agree.
    ///
    /// The symlink decides: a proxy may have lost its pointer and a history its file, and both are
    /// made anew. What they must not do is say something else.
    pub(super) fn agree(&self) -> Result<Option<&Version>, Vec<Refusal>> {
        let link = self.link.as_ref();
        let mut against = Vec::new();
        for (who, says) in
            [("the traffic goes to", &self.traffic), ("the history ends in", &self.history)]
        {
            match (link, says) {
                (Some(link), Some(other)) if link != other => against.push(Refusal::new(
                    format!("`current` names {link}, but {who} {other}"),
                    "see which version should be in service, make `current` name it, and remove \
                     history.json: it is rebuilt",
                )),
                (None, Some(other)) => against.push(Refusal::new(
                    format!("`current` is missing, but {who} {other}"),
                    format!("see whether {other} is in service, and make `current` name it"),
                )),
                _ => {}
            }
        }
        if let Some(stranger) = &self.stranger {
            against.push(Refusal::new(
                format!("the traffic goes to the instance `{stranger}`, which is not known here"),
                "see whose it is; give each release directory a proxy of its own",
            ));
        }
        if against.is_empty() { Ok(link) } else { Err(against) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_must_not_contradict_each_other() {
        let read = |text: &str| (text != "-").then(|| text.parse().unwrap());
        for (link, traffic, history, expected) in [
            ("-", "-", "-", Ok(None)),
            ("v1", "v1", "v1", Ok(Some("v1"))),
            ("v1", "-", "-", Ok(Some("v1"))),
            ("v1", "v2", "v1", Err(1)),
            ("v1", "v2", "v2", Err(2)),
            ("-", "v1", "-", Err(1)),
            ("-", "-", "v1", Err(1)),
        ] {
            let stranger = None;
            let (link, traffic, history) = (read(link), read(traffic), read(history));
            let testimony = Testimony { link, traffic, stranger, history };
            let found = testimony.agree().map(|v| v.map(Version::as_str)).map_err(|r| r.len());
            assert_eq!(found, expected, "{testimony:?}");
        }
        let stranger = Testimony { stranger: Some("v1-x".into()), ..Testimony::default() };
        assert_eq!(stranger.agree().map_err(|reasons| reasons.len()), Err(1));
    }
}
