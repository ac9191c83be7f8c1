//! The rule for text that people are shown: names and titles. The README says it in words, and the page keeps to it too
//! (`clean` in `page/text.js`). `tests/texts.json` has examples that both sides are tested with.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};

/// How many characters a name may have.
pub(crate) const NAME: usize = 32;
/// How many characters a title may have.
pub(crate) const TITLE: usize = 60;
/// How many combining marks may follow one character: more would be drawn over what is above and below.
const MARKS: usize = 4;
/// Characters without ink that Unicode counts among letters and symbols: the blank Braille pattern, the object replacement
/// character, two Egyptian blanks, and the null notehead.
const BLANK: [char; 5] = ['\u{2800}', '\u{fffc}', '\u{13441}', '\u{13442}', '\u{1d159}'];

/// Whether the text can be shown as it is; if not, why.
pub(crate) fn check(text: &str, longest: usize) -> Result<(), String> {
    let length = text.chars().count();
    if !(1..=longest).contains(&length) {
        return Err(format!("it has {length} characters and not 1 to {longest}"));
    }
    let categories = CodePointMapData::<GeneralCategory>::new();
    let mut before = ' ';
    let mut marks = 0;
    for char in text.chars() {
        let category = categories.get(char);
        let is_mark = GeneralCategoryGroup::Mark.contains(category);
        marks = if is_mark { marks + 1 } else { 0 };
        if char == ' ' && before == ' ' {
            return Err("a space must stand alone between two other characters".to_owned());
        }
        if char != ' ' && is_unseen(char, category) {
            return Err(format!("U+{:04X} cannot be seen", u32::from(char)));
        }
        if is_mark && (before == ' ' || marks > MARKS) {
            return Err(format!(
                "U+{:04X} is a mark and must follow a character that has at most {MARKS}",
                u32::from(char)
            ));
        }
        before = char;
    }
    if before == ' ' { Err("a space must stand alone between two other characters".to_owned()) } else { Ok(()) }
}

/// Control, format, private and unassigned characters, all white space, and what Unicode says is not drawn.
fn is_unseen(char: char, category: GeneralCategory) -> bool {
    GeneralCategoryGroup::Other.contains(category)
        || GeneralCategoryGroup::Separator.contains(category)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
        || BLANK.contains(&char)
}
