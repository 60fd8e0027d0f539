//! `working-tree-encoding` of UTF-16, which gix 0.90 silently writes as UTF-8.

/// A UTF-16 encoding, as `working-tree-encoding` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Utf16 {
    /// `UTF-16`: little-endian with a byte order mark, as git on Linux writes it.
    Marked,
    /// `UTF-16LE`.
    Little,
    /// `UTF-16BE`.
    Big,
}

impl Utf16 {
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        match name.to_ascii_uppercase().as_slice() {
            b"UTF-16" | b"UTF16" => Some(Self::Marked),
            b"UTF-16LE" | b"UTF16LE" => Some(Self::Little),
            b"UTF-16BE" | b"UTF16BE" => Some(Self::Big),
            _ => None,
        }
    }

    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        let mark = matches!(self, Self::Marked).then_some(0xfeff);
        let units = mark.into_iter().chain(text.encode_utf16());
        match self {
            Self::Marked | Self::Little => units.flat_map(u16::to_le_bytes).collect(),
            Self::Big => units.flat_map(u16::to_be_bytes).collect(),
        }
    }
}
