//! Public keys under which anyone can sign: they are refused wherever a key is read.

/// The y coordinates of the points of small order (RFC 8032 encodings without the sign bit). Under such a key one
/// signature fits about every eighth message, whatever it says. The list and why:
/// <https://eprint.iacr.org/2020/1244>, table 1.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    first_byte(1),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    P_MINUS_1,
];

/// The largest y coordinate that there is; larger numbers stand for smaller ones.
const P_MINUS_1: [u8; 32] = {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xec;
    bytes[31] = 0x7f;
    bytes
};

const fn first_byte(byte: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = byte;
    bytes
}

/// Whether an ed25519 public key is a point of small order, or written with a number beyond the field (each point of
/// small order has such a second spelling, and no sender's key has one).
pub fn is_weak_ed25519(key: &[u8; 32]) -> bool {
    let mut y = *key;
    y[31] &= 0x7f;
    let is_beyond = y.iter().rev().cmp(P_MINUS_1.iter().rev()).is_gt();
    is_beyond || SMALL_ORDER.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_point_of_small_order_is_weak() {
        for y in SMALL_ORDER {
            let mut with_sign = y;
            with_sign[31] |= 0x80;
            assert!(is_weak_ed25519(&y) && is_weak_ed25519(&with_sign), "{y:x?}");
        }
        // p to 2^255 - 1: all of them stand for 0 to 18.
        for low in 0xed..=0xff {
            let mut beyond = P_MINUS_1;
            beyond[0] = low;
            assert!(is_weak_ed25519(&beyond), "{low:x}");
        }
        let mut largest = P_MINUS_1;
        largest[0] = 0xeb;
        assert!(!is_weak_ed25519(&largest));
        assert!(!is_weak_ed25519(&[0x11; 32]));
    }
}
