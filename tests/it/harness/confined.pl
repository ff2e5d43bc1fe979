# Runs a program where memory that is written is never run: `perl confined.pl PROGRAM ARGUMENT..`
#
# The rule is the one that systemd's MemoryDenyWriteExecute makes, as a filter of system calls: no memory is mapped
# writable and executable at once (mmap), none is made executable later (mprotect, pkey_mprotect), no shared
# memory is attached executable (shmat). It is kept by what the program starts in its turn.
use strict;
use warnings;

my %machines = (    # AUDIT_ARCH_*, then the numbers of mmap, mprotect, pkey_mprotect, shmat, prctl
    x86_64  => [0xC000003E, 9, 10, 329, 30, 157],
    aarch64 => [0xC00000B7, 222, 226, 288, 196, 167],
);
chomp(my $machine = `uname -m`);
my ($arch, $mmap, $mprotect, $pkey_mprotect, $shmat, $prctl) = @{ $machines{$machine} or die "no rule for $machine\n" };

my ($LOAD, $AND, $EQUAL, $ANY_BIT, $RETURN) = (0x20, 0x54, 0x15, 0x45, 0x06);
my ($NUMBER, $ARCH, $THIRD) = (0, 4, 32);                # places in struct seccomp_data
my ($WRITE_EXEC, $EXEC, $SHM_EXEC) = (2 | 4, 4, 0100000);
my ($ALLOW, $EPERM) = (0x7FFF0000, 0x00050001);
my @rule = (                                             # code, jump where true, jump where false, operand
    [$LOAD, 0, 0, $ARCH],
    [$EQUAL, 0, 13, $arch],
    [$LOAD, 0, 0, $NUMBER],
    [$EQUAL, 3, 0, $mmap],
    [$EQUAL, 5, 0, $mprotect],
    [$EQUAL, 4, 0, $pkey_mprotect],
    [$EQUAL, 5, 8, $shmat],
    [$LOAD, 0, 0, $THIRD],                               # mmap
    [$AND, 0, 0, $WRITE_EXEC],
    [$EQUAL, 6, 5, $WRITE_EXEC],
    [$LOAD, 0, 0, $THIRD],                               # mprotect
    [$ANY_BIT, 4, 3, $EXEC],
    [$LOAD, 0, 0, $THIRD],                               # shmat
    [$ANY_BIT, 2, 1, $SHM_EXEC],
    [$RETURN, 0, 0, $ALLOW],
    [$RETURN, 0, 0, $ALLOW],
    [$RETURN, 0, 0, $EPERM],
);
my $program = join '', map { pack 'SCCL', @$_ } @rule;
my $filter = pack 'S x6 P', scalar @rule, $program;

my ($NO_NEW_PRIVS, $SECCOMP, $BY_FILTER) = (38, 22, 2);
syscall($prctl, $NO_NEW_PRIVS, 1, 0, 0, 0) == 0 or die "no_new_privs: $!\n";
syscall($prctl, $SECCOMP, $BY_FILTER, $filter, 0, 0) == 0 or die "seccomp: $!\n";
exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\n";
