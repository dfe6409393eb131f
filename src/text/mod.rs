//! From a prompt to token ids: caption cleaning, then the T5 tokenizer.
//!
//! The model was trained on captions that a Python program had cleaned, so [`caption`] has to clean prompts exactly as
//! that program does. [`python`] and [`html`] behave as Python's `re`, `str` and `html.parser`.

pub mod caption;
pub mod html;
pub mod python;
mod sentencepiece;
pub mod tokenizer;
mod tokenizer_json;
