//! What the pictures of several commands share: the head with the title, the colours of kernels, and embedded images.

/// A kind of kernels or of their buffers: the prefixes of its labels, its name, its colour.
pub type Category = (&'static [&'static str], &'static str, &'static str);

/// Kinds by the kernel that runs, or that first writes to a buffer; the last kind is everything else.
pub const CATEGORIES: [Category; 7] = [
    (&["weights"], "weights", "#9aa5b1"),
    (&["linear"], "linear layers", "#3b7dd8"),
    (&["attention"], "attention", "#e07b39"),
    (&["causal", "depthwise"], "convolutions", "#2e9e6b"),
    (&["group", "rms", "layer", "ada", "row", "fold"], "norms", "#b05cc6"),
    (&["copy"], "from the host, and copies", "#d9b310"),
    (&[""], "other", "#c94f4f"),
];

/// The kind of a label.
pub fn kind(label: &str) -> usize {
    CATEGORIES
        .iter()
        .position(|(stems, _, _)| stems.iter().any(|stem| label.starts_with(stem)))
        .unwrap_or(CATEGORIES.len() - 1)
}

/// The colour of a label's kind.
pub fn colour(label: &str) -> &'static str {
    CATEGORIES[kind(label)].2
}

/// The head of a picture on white, which dark pages show as well: its title, and below it what the colours mean.
pub fn head(title: &str, [width, height]: [f64; 2], left: f64, categories: &[Category]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>{0}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{left}\" y=\"28\" font-size=\"18\">{0}</text>\n",
        escaped(title)
    );
    let mut x = left;
    for (_, name, colour) in categories {
        svg += &format!("<rect x=\"{x}\" y=\"44\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        svg += &format!("<text x=\"{}\" y=\"55\">{name}</text>\n", x + 17.0);
        x += 40.0 + 7.2 * name.len() as f64;
    }
    svg
}

/// Text that may stand in an element. XML allows no control characters, which names of files may have.
pub fn escaped(text: &str) -> String {
    text.replace(char::is_control, " ").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The address of a PNG that a picture holds itself.
pub fn embedded(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64(png))
}

/// Base64 with padding (RFC 4648): each three bytes are four digits of six bits.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(*three.get(index).unwrap_or(&0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |index: usize| char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]);
        text.extend((0..4).map(|index| if index <= three.len() { digit(index) } else { '=' }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_is_that_of_the_standard() {
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn every_kind_is_one_of_kernels() {
        let kernels = include_str!("../../docs/kernels.md");
        // Except parameters, and buffers that no kernel writes first.
        for (stems, _, _) in &CATEGORIES[1..CATEGORIES.len() - 1] {
            for stem in *stems {
                assert!(kernels.contains(&format!("`{stem}_")), "no kernel of {stem}");
            }
        }
    }
}
