/* A kernel by the Linux boot protocol (Documentation/x86/boot.rst) that reads what it was given:
   real mode, then main() in protected mode. */
        .code16
        .section .setup, "ax"
        .org    0x1f1
        .byte   1               /* setup_sects, of 512 bytes, beside the first */
        .org    0x1fe
        .word   0xaa55
        .org    0x200           /* iPXE jumps here: DS is where this file's first byte lies */
        jmp     start
        .ascii  "HdrS"
        .word   0x203           /* version */
        .org    0x211
        .byte   1               /* loadflags: LOADED_HIGH, to 1 MiB */
        .org    0x214
        .long   0x100000        /* code32_start */
        .org    0x22c
        .long   0x37ffffff      /* initrd_addr_max */
        .org    0x240
start:  cli
        xorl    %ebx, %ebx
        movw    %ds, %bx
        shll    $4, %ebx
        leal    gdt(%ebx), %eax
        movl    %eax, gdtr + 2
        lgdtl   gdtr
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $8, $entry
        .balign 8
gdt:    .quad   0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:   .word   gdtr - gdt - 1
        .long   0

        .code32
        .section .entry, "ax"
entry:  movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7c00, %esp
        pushl   %ebx
        call    main
halt:   hlt
        jmp     halt
