@echo off
rem Prepares Windows 7, 10 or 11 as an analysis host. Run it as administrator, in the image:
rem   prepare.cmd CAPE-ADDRESS SERVICE-ADDRESS AGENT-FILE [GATEWAY [DNS]]
rem With GATEWAY the system sets its default route and name server at each start, for hosts that ask
rem no DHCP; DNS is GATEWAY if it is left out.
rem It may be run again. What it can't do by itself it says at the end; see docs/guest.rst.
setlocal
if "%~3"=="" (
    echo usage: prepare.cmd CAPE-ADDRESS SERVICE-ADDRESS AGENT-FILE [GATEWAY [DNS]]
    exit /b 2
)
net session >nul 2>&1
if errorlevel 1 (
    echo error: this needs an administrator
    echo fix: start cmd with "Run as administrator"
    exit /b 1
)
if not exist "%~3" (
    echo error: there is no %~3
    echo fix: copy agent/agent.py of CAPE here, as agent.pyw
    exit /b 1
)

rem Who may ask the endpoint mapper and the agent: CAPE and the service, nobody else.
netsh advfirewall set allprofiles state on
for %%n in (zfsiscsi-rpc zfsiscsi-agent) do netsh advfirewall firewall delete rule name=%%n >nul
netsh advfirewall firewall add rule name=zfsiscsi-rpc dir=in action=allow protocol=TCP localport=135 remoteip=%~1,%~2
netsh advfirewall firewall add rule name=zfsiscsi-agent dir=in action=allow protocol=TCP localport=8000 remoteip=%~1,%~2

rem CAPE's agent at each logon, with all rights.
schtasks /create /f /tn agent /sc onlogon /rl highest /tr "pythonw \"%~f3\""

rem The way out, at each start as SYSTEM. Every card gets the name server: its name differs on each host.
rem No pipe in it, as cmd would take that for its own; and 261 characters at most.
schtasks /delete /f /tn default-route >nul 2>&1
set dns=%~5
if "%dns%"=="" set dns=%~4
if not "%~4"=="" schtasks /create /f /tn default-route /sc onstart /ru SYSTEM /tr "powershell -NoProfile -Command \"route add 0.0.0.0 mask 0.0.0.0 %~4; foreach ($c in Get-WmiObject Win32_NetworkAdapterConfiguration -Filter IPEnabled=TRUE) { $c.SetDNSServerSearchOrder('%dns%') }\""

rem No sleep, no screen saver, no fast start-up: its "off" is a hibernation of a disk that is gone.
powercfg /hibernate off
for %%s in (monitor standby disk) do powercfg /change %%s-timeout-ac 0
reg add "HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Power" /v HiberbootEnabled /t REG_DWORD /d 0 /f

rem No updates, no scheduled upkeep: each run begins from the same disk, so they would never end.
sc config wuauserv start= disabled
sc stop wuauserv >nul
reg add HKLM\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU /v NoAutoUpdate /t REG_DWORD /d 1 /f
schtasks /change /tn "\Microsoft\Windows\Defrag\ScheduledDefrag" /disable >nul 2>&1

rem No page file: see docs/guest.rst.
wmic computersystem set AutomaticManagedPagefile=False >nul
reg add "HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management" /v PagingFiles /t REG_MULTI_SZ /d "" /f

rem A guest that was cut off must start, and not ask.
bcdedit /set {current} bootstatuspolicy ignoreallfailures
bcdedit /set {current} recoveryenabled no

echo.
echo Left to do by hand, see docs/guest.rst:
echo   the driver of the card that boots must start with the system (Start = 0)
echo   LightWeight filters off that card: in its properties, or by Disable-NetAdapterBinding
echo   logon without a password, for the user that runs the samples
