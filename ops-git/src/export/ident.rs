//! The `ident` attribute as git has it: `$Id$` becomes `$Id: <blob> $`.
//!
//! gix 0.90 leaves out the space before the second dollar and does not touch ids that are expanded
//! already. It finds nothing left to expand in what comes out of here.

use gix::bstr::ByteSlice as _;

/// Expands every `$Id$`, and every git-style `$Id: …$` afresh; `None` if there is none.
///
/// What has a line break before its second dollar is no keyword; what has a space inside belongs to
/// another version control system. Both stay.
pub(super) fn expand(content: &[u8], blob: &gix::oid) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = content[at..].find(b"$Id") {
        let start = at + found;
        // The dollar that ends one keyword may begin none, but the one that ends no keyword may.
        at = start + 1;
        let rest = &content[start + 3..];
        let length = match rest.first() {
            Some(b'$') => 1,
            Some(b':') => {
                let Some(end) = rest.find_byte(b'$') else { break };
                let inside = &rest[1..end];
                // One space after the colon and one before the dollar are git's own.
                let own = inside.get(1..inside.len().saturating_sub(1)).unwrap_or_default();
                if inside.contains(&b'\n') || own.contains(&b' ') {
                    continue;
                }
                end + 1
            }
            _ => continue,
        };
        out.extend_from_slice(&content[copied..start]);
        out.extend_from_slice(format!("$Id: {blob} $").as_bytes());
        copied = start + 3 + length;
        at = copied;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&content[copied..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_expanded_as_git_does() {
        let blob = gix::ObjectId::null(gix::hash::Kind::Sha1);
        let id = format!("$Id: {blob} $");
        for (content, expanded) in [
            ("", None),
            ("no keyword $ Id $Ident$", None),
            ("$Id$", Some(id.clone())),
            ("a $Id$ b $Id$ c", Some(format!("a {id} b {id} c"))),
            ("$Id: 0123 $", Some(id.clone())),
            ("$Id:0123$", Some(id.clone())),
            ("$Id: a.c,v 1.2 2001 joe $", None),
            ("$Id: cut\noff $", None),
            ("$Id: cut off", None),
            ("$Id: a.c,v 1 $Id$", Some(format!("$Id: a.c,v 1 {id}"))),
            ("$$Id$$", Some(format!("${id}$"))),
        ] {
            let answer = expand(content.as_bytes(), &blob);
            let answer = answer.map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(answer, expanded, "{content}");
        }
    }
}
