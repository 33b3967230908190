/* Says on the serial console what wimboot would find: the files, and the iBFT. */
typedef unsigned char u8;
typedef unsigned int u32;

static void put(u8 c)
{
    u8 ready;
    do
        __asm__ volatile("inb %w1, %0" : "=a"(ready) : "d"(0x3fd));
    while (!(ready & 0x20));
    __asm__ volatile("outb %0, %w1" : : "a"(c), "d"(0x3f8));
}

static void say(const char *text)
{
    while (*text)
        put(*text++);
}

static void number(u32 value)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[value >> shift & 15]);
}

static int same(const u8 *one, const char *other, u32 length)
{
    while (length--)
        if (one[length] != (u8)other[length])
            return 0;
    return 1;
}

static u32 crc32(const u8 *data, u32 length)
{
    u32 sum = ~0u;
    while (length--) {
        sum ^= *data++;
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
    }
    return ~sum;
}

static u32 field(const u8 *text)
{
    u32 value = 0;
    for (int digit = 0; digit < 8; digit++, text++)
        value = value << 4 | (*text <= '9' ? *text - '0' : (*text | 32) - 'a' + 10);
    return value;
}

/* Files in cpio's format "newc", with zeros between them. */
static void files(const u8 *at, const u8 *end)
{
    while (at + 110 < end) {
        if (!same(at, "070701", 6)) {
            at += 4;
            continue;
        }
        u32 size = field(at + 54), name = (110 + field(at + 94) + 3) & ~3u;
        say("file ");
        say((const char *)at + 110);
        say(" ");
        number(size);
        say(" ");
        number(crc32(at + name, size));
        say("\r\n");
        at += (name + size + 3) & ~3u;
    }
}

/* The iSCSI Boot Firmware Table, where ACPI has none: on a boundary of 16 below 1 MiB. */
static void ibft(void)
{
    for (const u8 *at = (const u8 *)0x80000; at < (const u8 *)0x100000; at += 16)
        if (same(at, "iBFT", 4))
            for (u32 offset = 48; offset < *(const u32 *)(at + 4); offset++)
                if (same(at + offset, "iqn.", 4)) {
                    say("ibft ");
                    say((const char *)at + offset);
                    say("\r\n");
                }
}

void main(const u8 *setup)
{
    const u8 *initrd = (const u8 *)*(const u32 *)(setup + 0x218);
    say("\r\nloader: begin\r\n");
    ibft();
    files(initrd, initrd + *(const u32 *)(setup + 0x21c));
    say("loader: end\r\n");
}
