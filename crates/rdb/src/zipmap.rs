//! Zipmaps, in which small hashes of RDB versions 2 and 3 (Redis up to 2.4) lie. Only read.
//!
//! ```text
//! u8 fields, 254 and up = count them | (length, field, length, u8 free, value, free bytes)* | 0xff
//! length: u8 below 254, else 254 and u32 LE
//! ```

const END: u8 = 255;
const LENGTH_LONG: u8 = 254;

/// A zipmap is not well formed; says what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZipmapError(pub &'static str);

/// A field's name and its value.
pub type FieldValue<'b> = (&'b [u8], &'b [u8]);

/// The fields and values of `bytes`. The first error ends the walk; a walk without one has seen a well-formed
/// zipmap.
pub fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { bytes, at: 0, count: 0 }
}

/// Checks all of `bytes` and counts the fields.
pub fn validate(bytes: &[u8]) -> Result<usize, ZipmapError> {
    fields(bytes).try_fold(0, |count, field| field.map(|_| count + 1))
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'b> {
    bytes: &'b [u8],
    /// The next field; 0 before the first step, past the end when the walk is over.
    at: usize,
    count: usize,
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<FieldValue<'b>, ZipmapError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.at = self.bytes.len() + 1;
        }
        step.transpose()
    }
}

impl<'b> Fields<'b> {
    fn step(&mut self) -> Result<Option<FieldValue<'b>>, ZipmapError> {
        if self.at > self.bytes.len() {
            return Ok(None);
        }
        if self.at == 0 {
            self.take(1)?;
        }
        if self.take(1)? == [END] {
            return self.check_end().map(|()| None);
        }
        self.at -= 1;
        let field_len = self.length()?;
        let field = self.take(field_len)?;
        let value_len = self.length()?;
        let free = usize::from(self.take(1)?[0]);
        let value = self.take(value_len)?;
        self.take(free)?;
        self.count += 1;
        Ok(Some((field, value)))
    }

    fn check_end(&self) -> Result<(), ZipmapError> {
        if self.at != self.bytes.len() {
            return Err(ZipmapError("zipmap ends before its last byte"));
        }
        let stated = self.bytes[0];
        if stated < LENGTH_LONG && usize::from(stated) != self.count {
            return Err(ZipmapError("zipmap with another number of fields than it says"));
        }
        Ok(())
    }

    fn length(&mut self) -> Result<usize, ZipmapError> {
        match self.take(1)?[0] {
            END => Err(ZipmapError("zipmap ends between a field and its value")),
            LENGTH_LONG => {
                let bytes = self.take(4)?.try_into().expect("four bytes were taken");
                let len = u32::from_le_bytes(bytes) as usize;
                // Whoever rewrites such a field in place would make its length of another size.
                if len < usize::from(LENGTH_LONG) {
                    return Err(ZipmapError("zipmap with a short length in five bytes"));
                }
                Ok(len)
            }
            short => Ok(usize::from(short)),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], ZipmapError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        let taken = taken.ok_or(ZipmapError("zipmap field past the end"))?;
        self.at += len;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example in the format's description, with two spare bytes behind one value.
    const TWO: &[u8] = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world__\xff";

    #[test]
    fn fields_and_values_are_read_past_the_free_bytes() {
        let read: Vec<_> = fields(TWO).collect();
        assert_eq!(read, [Ok((&b"foo"[..], &b"bar"[..])), Ok((&b"hello"[..], &b"world"[..]))]);
        assert_eq!(validate(b"\x00\xff"), Ok(0));
    }

    #[test]
    fn a_length_from_254_on_takes_five_bytes() {
        let mut bytes = b"\x01\x01f\xfe\x2c\x01\x00\x00\x00".to_vec();
        bytes.extend_from_slice(&[b'v'; 300]);
        bytes.push(0xff);
        let read: Vec<_> = fields(&bytes).collect();
        assert_eq!(read, [Ok((&b"f"[..], &[b'v'; 300][..]))]);
    }

    #[test]
    fn cuts_and_wrong_counts_are_refused() {
        for cut in 0..TWO.len() {
            assert!(validate(&TWO[..cut]).is_err(), "cut at {cut}");
        }
        let mut bad = TWO.to_vec();
        bad[0] = 3;
        assert_eq!(validate(&bad), Err(ZipmapError("zipmap with another number of fields than it says")));
        bad[0] = 255;
        assert_eq!(validate(&bad), Ok(2));
        bad.push(0xff);
        assert_eq!(validate(&bad), Err(ZipmapError("zipmap ends before its last byte")));
        assert_eq!(
            validate(b"\x01\xfe\x01\0\0\0f\x00\0\xff"),
            Err(ZipmapError("zipmap with a short length in five bytes"))
        );
        assert_eq!(validate(b"\x01\x01f\xff"), Err(ZipmapError("zipmap ends between a field and its value")));
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_walk(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(fields(&bytes).count() <= bytes.len() + 1);
        }
    }
}
