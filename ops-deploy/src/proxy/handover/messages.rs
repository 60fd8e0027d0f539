//! What the two processes say to each other: one JSON object a line. A successor may be newer or
//! older than its predecessor: both speak the lower schema of the two.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::proxy::admin::Answered;
use crate::traffic::Upstream;

/// The newest that this program speaks, and the oldest.
pub(super) const SCHEMA: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    Hello { schema: u32, pid: u32 },
    Ready { listens: SocketAddr },
    Serving {},
    Entered { id: u64, upstream: Option<Upstream> },
    Ending {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// With the sockets: of the public, of deployers, of successors; and the lock of the folder.
    Offer {
        schema: u32,
        pid: u32,
        address: SocketAddr,
    },
    Yours {
        under_way: Vec<(u64, Upstream)>,
        answered: Vec<Answered>,
    },
    Enter {
        id: u64,
    },
    Counted {
        id: u64,
        status: Option<u16>,
        micros: u64,
    },
    Left {
        id: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_schema_is_still_spoken() {
        let upstream = || Upstream { address: ([127, 0, 0, 1], 2).into(), instance: "i2".into() };
        let successor = [
            (FromSuccessor::Hello { schema: 1, pid: 7 }, r#"{"hello":{"schema":1,"pid":7}}"#),
            (
                FromSuccessor::Ready { listens: ([127, 0, 0, 1], 80).into() },
                r#"{"ready":{"listens":"127.0.0.1:80"}}"#,
            ),
            (FromSuccessor::Serving {}, r#"{"serving":{}}"#),
            (
                FromSuccessor::Entered { id: 3, upstream: Some(upstream()) },
                r#"{"entered":{"id":3,"upstream":{"address":"127.0.0.1:2","instance":"i2"}}}"#,
            ),
            (FromSuccessor::Ending {}, r#"{"ending":{}}"#),
        ];
        for (message, golden) in successor {
            assert_eq!(serde_json::to_string(&message).unwrap(), golden);
            assert_eq!(serde_json::from_str::<FromSuccessor>(golden).unwrap(), message);
        }
        let predecessor = [
            (
                FromPredecessor::Offer { schema: 1, pid: 6, address: ([127, 0, 0, 1], 80).into() },
                r#"{"offer":{"schema":1,"pid":6,"address":"127.0.0.1:80"}}"#,
            ),
            (
                FromPredecessor::Yours { under_way: vec![(3, upstream())], answered: Vec::new() },
                r#"{"yours":{"under_way":[[3,{"address":"127.0.0.1:2","instance":"i2"}]],"answered":[]}}"#,
            ),
            (FromPredecessor::Enter { id: 3 }, r#"{"enter":{"id":3}}"#),
            (
                FromPredecessor::Counted { id: 3, status: Some(200), micros: 9 },
                r#"{"counted":{"id":3,"status":200,"micros":9}}"#,
            ),
            (FromPredecessor::Left { id: 3 }, r#"{"left":{"id":3}}"#),
        ];
        for (message, golden) in predecessor {
            assert_eq!(serde_json::to_string(&message).unwrap(), golden);
            assert_eq!(serde_json::from_str::<FromPredecessor>(golden).unwrap(), message);
        }
        let newer = r#"{"hello":{"schema":9,"pid":7,"more":true}}"#;
        let hello = FromSuccessor::Hello { schema: 9, pid: 7 };
        assert_eq!(serde_json::from_str::<FromSuccessor>(newer).unwrap(), hello);
    }
}
