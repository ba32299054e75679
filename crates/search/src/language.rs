//! In which group of languages a query is written, by its letters; and for each group what people
//! photograph, as words: the background against which a match must stand out.

/// A group of languages whose texts a model scores alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// ASCII letters alone: English, as far as letters tell.
    English,
    /// Han without kana.
    Chinese,
    /// Kana.
    Japanese,
    /// Hangul.
    Korean,
    /// Cyrillic.
    Cyrillic,
    /// Arabic letters.
    Arabic,
    /// Devanagari.
    Hindi,
    /// Thai.
    Thai,
    /// Other Latin letters.
    Latin,
}

impl Group {
    /// All groups.
    pub const ALL: [Group; 9] = [
        Group::English,
        Group::Chinese,
        Group::Japanese,
        Group::Korean,
        Group::Cyrillic,
        Group::Arabic,
        Group::Hindi,
        Group::Thai,
        Group::Latin,
    ];

    /// The group of a text.
    pub fn of(text: &str) -> Self {
        let has = |range: std::ops::RangeInclusive<char>| text.chars().any(|c| range.contains(&c));
        if has('\u{3040}'..='\u{30ff}') {
            Group::Japanese
        } else if has('\u{ac00}'..='\u{d7a3}') {
            Group::Korean
        } else if has('\u{3400}'..='\u{9fff}') || has('\u{20000}'..='\u{3ffff}') {
            Group::Chinese
        } else if has('\u{400}'..='\u{52f}') {
            Group::Cyrillic
        } else if has('\u{600}'..='\u{6ff}') {
            Group::Arabic
        } else if has('\u{900}'..='\u{97f}') {
            Group::Hindi
        } else if has('\u{e00}'..='\u{e7f}') {
            Group::Thai
        } else if text.chars().any(|c| c.is_alphabetic() && !c.is_ascii()) {
            Group::Latin
        } else {
            Group::English
        }
    }

    /// The background texts of the group.
    pub fn texts(self) -> impl Iterator<Item = &'static str> {
        let list = match self {
            Group::English => ENGLISH,
            Group::Chinese => CHINESE,
            Group::Japanese => JAPANESE,
            Group::Korean => KOREAN,
            Group::Cyrillic => CYRILLIC,
            Group::Arabic => ARABIC,
            Group::Hindi => HINDI,
            Group::Thai => THAI,
            Group::Latin => LATIN,
        };
        list.split('|').map(str::trim)
    }
}

const ENGLISH: &str = "dog|cat|bird|fish|horse|tree|flower|mountain|beach|river|house|street|car|train|\
    airplane|boat|bicycle|food|fruit|coffee|book|chair|child|woman|man|family|people at a party|\
    a wedding|a sunset|snow|a lake in the forest|the city at night|a football match|a concert|\
    a screenshot of text|a drawing|a map|a kitchen|an office desk|shoes|a clock|a musical instrument";
const CHINESE: &str = "狗|猫|鸟|鱼|马|树|花|山|海滩|河|房子|街道|汽车|火车|飞机|船|自行车|食物|水果|咖啡|书|椅子|孩子|\
    女人|男人|家庭|聚会上的人们|婚礼|日落|雪|森林里的湖|城市的夜晚|足球比赛|音乐会|文字截图|一幅画|地图|厨房|办公桌|鞋子|\
    时钟|乐器";
const JAPANESE: &str = "いぬ|ねこ|とり|さかな|うま|木の写真|花の写真|山の景色|ビーチ|川の流れ|いえ|通りの人|くるま|\
    でんしゃ|ひこうき|ボート|じてんしゃ|たべもの|くだもの|コーヒー|ほん|いす|こども|女の人|男の人|結婚式の写真|夕日と海|ゆき";
const KOREAN: &str = "개|고양이|새|물고기|말|나무|꽃|산|해변|강|집|거리|자동차|기차|비행기|배|자전거|음식|과일|커피|책|\
    의자|아이|여자|남자|결혼식|일몰|눈";
const CYRILLIC: &str = "собака|кошка|птица|рыба|лошадь|дерево|цветок|гора|пляж|река|дом|улица|машина|поезд|\
    самолёт|лодка|велосипед|еда|фрукты|кофе|книга|стул|ребёнок|женщина|собака у воды|кіт|птах|квітка|будинок|\
    вулиця|потяг|літак|їжа|дитина|весілля|захід сонця";
const ARABIC: &str = "كلب|قطة|طائر|سمكة|حصان|شجرة|زهرة|جبل|شاطئ|نهر|بيت|شارع|سيارة|قطار|طائرة|قارب|دراجة|طعام|\
    فاكهة|قهوة|كتاب|كرسي|طفل|امرأة|رجل|حفل زفاف|غروب الشمس|ثلج";
const HINDI: &str = "कुत्ता|बिल्ली|पक्षी|मछली|घोड़ा|पेड़|फूल|पहाड़|समुद्र तट|नदी|घर|सड़क|कार|रेलगाड़ी|हवाई जहाज|नाव|साइकिल|भोजन|\
    फल|कॉफी|किताब|कुर्सी|बच्चा|औरत|आदमी|शादी|सूर्यास्त|बर्फ";
const THAI: &str = "สุนัข|แมว|นก|ปลา|ม้า|ต้นไม้|ดอกไม้|ภูเขา|ชายหาด|แม่น้ำ|บ้าน|ถนน|รถยนต์|รถไฟ|เครื่องบิน|เรือ|จักรยาน|อาหาร|\
    ผลไม้|กาแฟ|หนังสือ|เก้าอี้|เด็ก|ผู้หญิง|ผู้ชาย|งานแต่งงาน|พระอาทิตย์ตก|หิมะ";
const LATIN: &str = "perro|gato|pájaro|árbol|playa|coche|niño|comida|chien|oiseau|fleur|rivière|maison|vélo|\
    Hund|Katze|Vogel|Blume|Straße|Flugzeug|cane|gatto|fiore|montagna|treno|cavalo|árvore|praia|comboio|\
    hond|paard|huis|fiets|pies|ptak|kwiat|dom|pociąg|köpek|kuş|çiçek|dağ|ağaç|con chó|con mèo|bông hoa|bãi biển|\
    ngôi nhà|xe đạp|mariage|Hochzeit|atardecer";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn groups_of_texts() {
        for group in Group::ALL {
            let texts: Vec<&str> = group.texts().collect();
            assert!(texts.len() >= 24 && texts.iter().all(|text| !text.is_empty()), "{group:?}");
            assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "{group:?}");
            let own = texts.iter().filter(|text| Group::of(text) == group).count();
            assert!(own * 3 > texts.len() || group == Group::Latin, "{group:?}: {own}");
        }
        assert_eq!(Group::of("красный"), Group::Cyrillic);
        assert_eq!(Group::of("café"), Group::Latin);
        assert_eq!(Group::of("红色 car"), Group::Chinese);
    }
}
