//! Data that is the same in every run.

/// What texts are made of.
pub(super) const WORDS: [&str; 32] = [
    "account",
    "address",
    "alert",
    "archive",
    "balance",
    "branch",
    "cancelled",
    "checkout",
    "commit",
    "customer",
    "delivered",
    "deploy",
    "device",
    "email",
    "error",
    "invoice",
    "journal",
    "london",
    "message",
    "night",
    "order",
    "payment",
    "pending",
    "quantity",
    "region",
    "release",
    "session",
    "status",
    "token",
    "update",
    "vienna",
    "warehouse",
];

/// xorshift64*: even, quick, and the same everywhere.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }
}
