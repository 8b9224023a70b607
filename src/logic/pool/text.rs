//! A short text of fixed size.

/// A short text in shared memory, in the encoding of the database that wrote it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Text<const N: usize> {
    length: u16,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Self = Text {
        length: 0,
        bytes: [0; N],
    };

    /// Takes over what fits; the caller has clipped it to whole characters.
    pub fn set(&mut self, text: &[u8]) {
        let length = text.len().min(N);
        self.length = length as u16;
        for (to, from) in self.bytes.iter_mut().zip(text) {
            *to = *from;
        }
    }

    /// The text.
    pub fn get(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }

    /// The text, unless it is empty.
    pub fn some(&self) -> Option<&[u8]> {
        Some(self.get()).filter(|text| !text.is_empty())
    }
}
